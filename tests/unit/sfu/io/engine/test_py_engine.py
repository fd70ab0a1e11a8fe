from sfu.io.engine.py_engine import PyEngine
from tests.support.engine_contract import EngineContract, Send, stage

__all__ = ["stage"]  # a fixture of the suite


class TestPyEngine(EngineContract):
    @staticmethod
    def make_engine(send: Send) -> PyEngine:
        return PyEngine(send)
