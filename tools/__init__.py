"""What serves skipfold's own development and tests."""
