"""Rewrites the library's messages for the command line, where arguments are options."""

import re
from argparse import ArgumentParser
from collections.abc import Mapping

_VALUE = r"""("[^"]*"|'[^']*'|\[[^\]]*\]|[\w./-]+)"""


def option_names(command: ArgumentParser) -> dict[str, str]:
    """The first option of each argument that is an option of the command."""
    return {one.dest: one.option_strings[0] for one in command._actions if one.option_strings}


def in_options(sentence: str, names: Mapping[str, str]) -> str:
    """A sentence with `batch_size=8`, "`batch_size`" and "batch_size is" as --batch-size."""
    for name, option in names.items():

        def with_value(found: re.Match[str], option: str = option) -> str:
            value = found[1].strip("\"'")
            if value in ("True", "False"):
                return option if value == "True" else f"--no-{option.removeprefix('--')}"
            return f"{option} {value.strip('[]').replace(', ', ',')}"

        sentence = re.sub(rf"`{name}={_VALUE}`", with_value, sentence)
        sentence = re.sub(rf"(?<![\w-]){name}={_VALUE}", with_value, sentence)
        sentence = sentence.replace(f"`{name}`", option)
        sentence = re.sub(rf"^(one of )?{name} is ", rf"\1{option} is ", sentence)
    return sentence
