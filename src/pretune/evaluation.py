from pretune.evaluate import *  # noqa
