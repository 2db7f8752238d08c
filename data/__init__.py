"""Images and labels, and the one place that knows mean, std, layout and splits."""
