"""The choice on a simulated machine: `record.py` records the suite, `regret.py` makes the study's page."""
