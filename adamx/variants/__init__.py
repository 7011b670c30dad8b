"""The rules: for each NAME, `scale_by_NAME` (the direction, un-negated) and `NAME` (with weight decay and learning rate)."""
