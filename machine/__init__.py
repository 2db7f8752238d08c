"""The CPU, the GPUs and the memory of the machine that skipfold runs on."""
