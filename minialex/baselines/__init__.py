"""The rivals of the paper's tables, made of well-kept libraries: the extra `baselines`.

`sift_fisher.run` and `sparse_coding.run` learn from one data set and are judged on another.
"""
