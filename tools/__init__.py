"""Scripts for the development and the tests of skipfold, which are not installed with it."""
