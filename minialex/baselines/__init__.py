"""The baselines in the paper's tables, built on established libraries (extra `baselines`).

`sift_fisher.run` and `sparse_coding.run` train on one data set and evaluate on another.
"""
