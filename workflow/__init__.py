"""The stages in order: which run is meant, what is missing, and what a deployment does. Prints nothing."""
