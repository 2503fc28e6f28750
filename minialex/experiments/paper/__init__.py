"""The paper's experiments, one a file: TITLE, ORDER and run(context) -> Section."""
