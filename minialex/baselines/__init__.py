"""The baselines of the paper's tables, built from established libraries (extra `baselines`).

`sift_fisher.run` and `sparse_coding.run` train on one data set and are evaluated on another.
"""
