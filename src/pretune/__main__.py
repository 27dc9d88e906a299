"""``python -m pretune``: the command line."""

from pretune.cli import main

raise SystemExit(main())
