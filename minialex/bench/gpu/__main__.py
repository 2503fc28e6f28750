"""python -m minialex.bench.gpu: a table of the suite's parts, for docs/gpu.md."""

from minialex.bench.gpu import Plan, parts

if __name__ == "__main__":
    print(parts.listed(Plan(checks=True, data="DATA")))
