"""A folder of transformers as an MLflow model of a run, so that `mlflow models serve` serves it.

Price: the model is loaded once more, and copied into the store. Nothing is fetched and nothing is installed.
"""

import logging
import tempfile
from pathlib import Path
from typing import Any

MODEL_NAME = "model"
"""runs:/RUN_ID/model is where it is found."""


def send_model(client: Any, run_id: str, entry: dict[str, Any]) -> None:
    """Keeps the folder entry["path"] in the store as a model of the run; raises what MLflow raises.

    client: an MlflowClient; entry: path, task (transformers' name of a pipeline), requirements (pip's, for a server),
    pairs (whether it takes two texts at a time).
    """
    from mlflow.entities import LoggedModelOutput

    experiment = client.get_run(run_id).info.experiment_id
    model = client.create_logged_model(experiment, MODEL_NAME, source_run_id=run_id, tags={"task": entry["task"]})
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / MODEL_NAME
            save_mlflow_model(entry, path, model.model_id)
            client.log_model_artifacts(model.model_id, str(path))
        client.finalize_logged_model(model.model_id, "READY")
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    except BaseException:
        client.finalize_logged_model(model.model_id, "FAILED")
        raise


def save_mlflow_model(entry: dict[str, Any], path: Path, model_id: str | None = None) -> None:
    """Writes the MLflow model of such an entry to `path`, which must not exist yet."""
    import mlflow.transformers
    import transformers
    from mlflow.models import Model
    from mlflow.models.signature import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    logging.getLogger("mlflow.transformers").setLevel(logging.ERROR)  # it looks for a model card on the hub
    task, text = entry["task"], DataType.string
    # A named column: without a name MLflow reads each text as a Python literal, so that "5" fails, and a long text too.
    given, answer = [ColSpec(text, "text")], [ColSpec(text)]
    options: dict[str, Any] = {"ignore_labels": []}  # where a text has no entity it would stumble over the empty list
    if task == "text-classification":
        given += [ColSpec(text, "text_pair")] if entry["pairs"] else []
        answer, options = [ColSpec(text, "label"), ColSpec(DataType.double, "score")], {"truncation": True}
    mlflow.transformers.save_model(
        # Not the path: MLflow 3.17 cannot read transformers 5's table of pipelines, which it needs for a path.
        transformers_model=transformers.pipeline(task, model=entry["path"], device="cpu"),
        path=str(path),
        task=task,
        signature=ModelSignature(inputs=Schema(given), outputs=Schema(answer)),
        model_config=options,
        pip_requirements=entry["requirements"],
        mlflow_model=Model(model_id=model_id, model_uuid=model_id) if model_id else None,
    )
