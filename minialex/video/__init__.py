"""The two-stream video network (Simonyan & Zisserman, 2014): the extra `video`.

`clips` says what a clip is, `moving` generates some, `files` reads some; `flow` measures motion;
`two_stream` trains a network on frames and one on motion, and averages their answers.
"""
