"""Reads single figures out of a service's metrics."""

import re

from tests.support.service import Service

_LABEL = re.compile(r'(\w+)="([^"]*)"')


def sample_sum(service: Service, name: str, **labels: str) -> float:
    """The sum of all samples of a metric that have these labels, whatever others they have."""
    total = 0.0
    for sample, value in service.metrics().items():
        found, _, written = sample.partition("{")
        if found == name and labels.items() <= dict(_LABEL.findall(written)).items():
            total += value
    return total
