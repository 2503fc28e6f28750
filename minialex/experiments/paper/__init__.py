"""The paper's experiments, one a module: TITLE, ORDER and run(context) -> Section."""
