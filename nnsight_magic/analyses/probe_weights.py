"""What a probe of all rows learned, as directions of the states themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnsight_magic.analyses.probe_fits import Method, learned


@dataclass(frozen=True)
class Weights:
    """What tells each class from the others.

    Attributes:
        toward: for each class the direction `(classes, numbers)` in which its score grows against
            the others', in the states' own units and of no particular length.
        apart: for each class its mean minus the mean of all other rows, `(classes, numbers)`.
        method: how they were learned.
    """

    toward: np.ndarray
    apart: np.ndarray
    method: Method

    def direction(self, number: int) -> np.ndarray:
        """The direction to class `number`, `(numbers,)`.

        Of class means it is their difference. Of a logistic regression it is the normal of the
        plane that parts the classes, as long as the means are apart along it.
        """
        if self.method == "means":
            return self.apart[number]
        normal = self.toward[number] / np.linalg.norm(self.toward[number])
        return normal * float(normal @ self.apart[number])


def weights_of(x: np.ndarray, label: np.ndarray, method: Method, strength: float) -> Weights:
    """Learns from all rows `(rows, numbers)`, standardised by all of them."""
    from sklearn.preprocessing import StandardScaler

    scale = StandardScaler().fit(x)
    classes = np.unique(label)
    apart = np.stack([x[label == each].mean(0) - x[label != each].mean(0) for each in classes])
    if method == "means":
        return Weights(apart, apart, method)
    probe, _ = learned(method, strength, np.asarray(scale.transform(x)), label)
    found = probe.coef_
    if len(classes) == 2:
        found = np.concatenate([-found, found])
    else:  # against the mean of the others
        found = found - (found.sum(0) - found) / (len(classes) - 1)
    return Weights(found / scale.scale_, apart, method)
