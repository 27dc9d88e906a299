"""The sections of a report: each file has functions from facts to a section, or to None where there is nothing."""
