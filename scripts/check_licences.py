#!/usr/bin/env python3
"""Licences and sources of all dependencies, against deny.toml, in a second and without a network.

`make deny` asks cargo-deny the same and more (advisories, licence texts); that takes minutes to build, so it is for releases. This is
the part of it that each change can break.
"""

import json
import os
import re
import subprocess
import sys
import tomllib

REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"


def is_allowed(expression, allowed):
    """Whether an SPDX expression can be satisfied by what is allowed; the old `A/B` means OR."""
    tokens = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))

    def alternative(at):
        good, at = conjunction(at)
        while at < len(tokens) and tokens[at] == "OR":
            another, at = conjunction(at + 1)
            good = good or another
        return good, at

    def conjunction(at):
        good, at = term(at)
        while at < len(tokens) and tokens[at] == "AND":
            another, at = term(at + 1)
            good = good and another
        return good, at

    def term(at):
        if tokens[at] == "(":
            good, at = alternative(at + 1)
            if tokens[at] != ")":
                raise ValueError(expression)
            return good, at + 1
        name, at = tokens[at], at + 1
        if at < len(tokens) and tokens[at] == "WITH":
            name, at = f"{name} WITH {tokens[at + 1]}", at + 2
        return name in allowed, at

    good, at = alternative(0)
    if at != len(tokens):
        raise ValueError(expression)
    return good


def main():
    with open("deny.toml", "rb") as file:
        rules = tomllib.load(file)
    allowed = set(rules["licenses"]["allow"])
    command = [os.environ.get("CARGO", "cargo"), "metadata", "--locked", "--format-version", "1"]
    for target in rules["graph"]["targets"]:
        command += ["--filter-platform", target]
    packages = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["packages"]
    problems = []
    for package in packages:
        name = f"{package['name']} {package['version']}"
        if package["source"] not in (None, REGISTRY):
            problems.append(f"{name}: from {package['source']}, which is not the registry")
        try:
            if not is_allowed(package["license"] or "", allowed):
                problems.append(f"{name}: licence {package['license']} is not among those of deny.toml")
        except (IndexError, ValueError):
            problems.append(f"{name}: licence {package['license']} cannot be read")
    for problem in problems:
        print(f"licences: {problem}", file=sys.stderr)
    if problems:
        sys.exit(1)
    print(f"licences: {len(packages)} packages are good")


if __name__ == "__main__":
    main()
