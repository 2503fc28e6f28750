"""The textbook: each op of the network as plain loops over numbers, in float64.

Nothing here is fast and nothing here depends on the package: these files say what the ops mean, and
the tests hold every backend to them. Letters: N batch, H W input, C channels in, K channels out,
R S kernel, P Q output, G groups. Arrays are N H W C, weights R S C/G K; pads are
((top, bottom), (left, right)).
"""
