"""`python -m skipfold`."""

from skipfold import main

main()
