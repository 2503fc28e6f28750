"""The reference implementation: each op of the network as plain loops over numbers, in float64.

These files define what the ops mean. They are slow and do not depend on the package; the tests
compare every backend with them. Letters: N batch, H W input, C channels in, K channels out,
R S kernel, P Q output, G groups. Arrays are N H W C, weights R S C/G K; pads are
((top, bottom), (left, right)).
"""
