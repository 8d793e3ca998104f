"""TFLite on Arm, with XNNPACK."""

import dataclasses

from tfsparse.doctor.measurement import NotMeasurable
from tfsparse.doctor.target import HARDLY, NO, UNKNOWN, YES, Target, Verdict
from tfsparse.doctor.tflite_cpu import TFLiteCPU, sparse_in_file
from tfsparse.doctor.weights import Operation
from tfsparse.export.tflite_rules import POINTWISE_MIN_SPARSITY


class XNNPackArm(Target):
    """The verdicts of TFLite on x86; besides, 1x1 convolutions run sparse in networks of a certain form.

    Not measured: nothing of tfsparse has run on Arm.

    Source:
        XNNPACK, src/subgraph.c, for the rules of a sparse cluster; LiteRT, README of the XNNPACK delegate. The kernel
        for Dense layers is that of `tflite-cpu`.
    """

    name, title = "xnnpack-arm", "TFLite on Arm with XNNPACK (not measured here)"
    kinds = TFLiteCPU.kinds

    def __init__(self):
        self._x86 = TFLiteCPU()

    def verdict(self, weight, pattern):
        verdict = self._x86.verdict(weight, pattern)
        if verdict.faster in (YES, HARDLY):
            return dataclasses.replace(verdict, faster=UNKNOWN, why="the kernel is that of x86")
        if weight.operation is not Operation.POINTWISE or weight.array.dtype == "int8":
            return verdict
        if pattern.sparsity > POINTWISE_MIN_SPARSITY and sparse_in_file(weight)[1]:
            return Verdict(verdict.smaller, UNKNOWN, "runs sparse if the network has the form that XNNPACK asks for")
        instead = 'granularity="weight", sparsity >= 0.7'
        return Verdict(verdict.smaller, NO, "XNNPACK runs 1x1 convolutions sparse above 2/3 zeros", instead)

    def granularities(self, sparsity):
        return self._x86.granularities(sparsity)

    def forms(self, source, folder):
        raise NotMeasurable("an Arm processor is needed")
