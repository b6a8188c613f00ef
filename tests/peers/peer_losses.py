#!/usr/bin/env python3
"""Loss functions of Liger, torchtune and verl, of which only plain torch code is run. They lie in a
folder of their own (setup.sh), installed without what they depend on: packages that are missing are
replaced by mocks, which none of the functions used here touches.

Usage: peer_losses.py       prints the versions
SPDX-License-Identifier: Apache-2.0
"""
import importlib
import importlib.machinery
import importlib.metadata
import pathlib
import sys
from unittest.mock import MagicMock

FOLDER = pathlib.Path(sys.prefix) / "oracles"
ABSENT = {"torchao", "torchdata", "ray", "omegaconf", "hydra", "tensordict", "codetiming", "tiktoken", "orjson",
          "sentencepiece", "pandas", "blobfile", "pyarrow", "cachetools", "aiohttp", "pylatexenc", "dill", "uvicorn",
          "fastapi", "zmq", "wandb"}


class Mocks:
    """Finds what isn't there: at the end of the path, so that what is there comes first."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ABSENT:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        module = MagicMock(name=spec.name)
        module.__path__, module.__spec__, module.__name__ = [], spec, spec.name
        return module

    def exec_module(self, module):
        pass


def load(name):
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
        sys.meta_path.append(Mocks())
    return importlib.import_module(name)


def version(package):
    found = importlib.metadata.distributions(name=package, path=[str(FOLDER)])
    return next(iter(found)).version


if __name__ == "__main__":
    for package in ("liger_kernel", "torchtune", "verl"):
        print(package, version(package))
