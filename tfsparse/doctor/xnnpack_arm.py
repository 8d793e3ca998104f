"""TFLite on Arm, with XNNPACK."""

import dataclasses

from tfsparse.doctor import measuring
from tfsparse.doctor.target import HARDLY, NO, UNKNOWN, YES, Target, Verdict
from tfsparse.doctor.tflite_cpu import TFLiteCPU, stored
from tfsparse.doctor.weights import Use

POINTWISE_FROM = 2 / 3  # zeros over all 1x1 convolutions of a cluster


class XNNPackArm(Target):
    """What TFLite does on x86, and 1x1 convolutions run sparse in networks of a certain form.

    Not measured: nothing of tfsparse has run on Arm. Sources: XNNPACK's src/subgraph.c (rules of a sparse cluster) and
    LiteRT's README of the XNNPACK delegate; the kernel for Dense layers is that of `tflite-cpu`.
    """

    name, title, takes = "xnnpack-arm", "TFLite on Arm with XNNPACK (not measured here)", TFLiteCPU.takes

    def __init__(self):
        self._x86 = TFLiteCPU()

    def verdict(self, weight, pattern):
        verdict = self._x86.verdict(weight, pattern)
        if verdict.faster in (YES, HARDLY):
            return dataclasses.replace(verdict, faster=UNKNOWN, why="the kernel is that of x86")
        if weight.use is not Use.POINTWISE or weight.array.dtype == "int8":
            return verdict
        if pattern.zeros > POINTWISE_FROM and stored(weight)[1]:
            return Verdict(verdict.smaller, UNKNOWN, "runs sparse if the network has the form that XNNPACK asks for")
        train = 'granularity="weight", sparsity >= 0.7'
        return Verdict(verdict.smaller, NO, "XNNPACK runs 1x1 convolutions sparse above 2/3 zeros", train)

    def granularities(self, sparsity):
        return self._x86.granularities(sparsity)

    def forms(self, subject, folder):
        raise measuring.Unmeasured("an Arm processor is needed")
