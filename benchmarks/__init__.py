"""Scripts that measure skipfold; nothing imports them."""
