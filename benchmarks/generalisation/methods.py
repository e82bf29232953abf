"""The methods by name: functions of a case that return (m, G) expected counts of its hidden spots, and variances or None."""

from benchmarks.generalisation import baselines, sphisto_methods
from benchmarks.generalisation.cases import SHARES

METHODS = {
    "mean profile": baselines.mean_profile,
    "ridge": baselines.ridge,
    "gaussian": baselines.gaussian,
    "alone": sphisto_methods.alone,
    "sphisto": sphisto_methods.sphisto,
    "sphisto pooled": sphisto_methods.pooled,
    "sphisto registered": sphisto_methods.registered,
}
NEEDS_SPOTS, TAKES_NONE = ("gaussian", "alone"), ("mean profile", "ridge", "sphisto pooled")


def runs_on(method: str, share: str) -> bool:
    """Whether a method is for that share of the target's spots."""
    return method not in (NEEDS_SPOTS if SHARES[share] == 0 else TAKES_NONE)
