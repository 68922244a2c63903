"""Metrics of classifiers and of scores, by scikit-learn and scipy, under the names of torchmetrics and evaluate."""

import warnings
from collections.abc import Sequence

import scipy.stats
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef


def classification_metrics(targets: Sequence[int], predicted: Sequence[int], labels: int) -> dict[str, float]:
    """accuracy, f1 and matthews of predicted label indices.

    f1 is that of label 1 where there are two labels (evaluate's default), else the unweighted mean over all `labels`; a
    label that is neither there nor predicted counts as 0. matthews is 0 for a constant prediction.
    """
    if labels == 2:
        f1 = f1_score(targets, predicted, pos_label=1, average="binary", zero_division=0.0)
    else:
        f1 = f1_score(targets, predicted, labels=range(labels), average="macro", zero_division=0.0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="A single label was found", category=UserWarning)
        matthews = matthews_corrcoef(targets, predicted)
    return {"accuracy": float(accuracy_score(targets, predicted)), "f1": float(f1), "matthews": float(matthews)}


def correlations(answers: Sequence[float], scores: Sequence[float]) -> dict[str, float]:
    """pearson and spearman; 0 where either side is constant or there is one pair only."""
    if len(scores) < 2:
        return {"pearson": 0.0, "spearman": 0.0}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=scipy.stats.ConstantInputWarning)
        warnings.filterwarnings("ignore", category=scipy.stats.NearConstantInputWarning)
        pearson = float(scipy.stats.pearsonr(answers, scores).statistic)
        spearman = float(scipy.stats.spearmanr(answers, scores).statistic)
    return {"pearson": pearson if pearson == pearson else 0.0, "spearman": spearman if spearman == spearman else 0.0}
