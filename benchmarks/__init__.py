"""Scripts that measure skipfold, and that no module of skipfold imports."""
