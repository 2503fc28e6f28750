"""The two-stream video network (Simonyan & Zisserman, 2014); needs the extra `video`.

`clips` defines a clip, `moving` generates clips, `files` reads them from video files, `flow`
computes optical flow, `two_stream` trains one network on frames and one on flow and averages their
predictions. `python -m minialex.video FOLDER` does it for a folder of video files.
"""
