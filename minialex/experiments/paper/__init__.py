"""The paper's experiments, one per module: TITLE, ORDER and run(context) -> Section."""
