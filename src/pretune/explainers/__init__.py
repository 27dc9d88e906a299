"""One file a method; see base.py for what a file must define."""
