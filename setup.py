"""Packages and their pinned dependencies; constraints.txt pins everything below them."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="electra-pretraining",
    version="0.2.0",
    description="Distributed ELECTRA pretraining: Ray, SentencePiece, WebDataset, DeepSpeed ZeRO, MLflow.",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.11,<3.13",
    packages=[
        *find_packages(include=["model*", "pipeline*", "cluster*"]),
        "configs",
        "configs.tasks",
        "configs.sweeps",
    ],
    package_data={
        "configs": ["*.yaml"],
        "configs.tasks": ["*.yaml"],
        "configs.sweeps": ["*.yaml"],
        "pipeline.explaining": ["*.html", "*.css", "*.js"],
    },
    install_requires=[
        "accelerate>=1.0",
        "captum==0.9.0",
        "deepspeed==0.19.8",
        "jinja2>=3.1",
        "matplotlib>=3.8",
        "mlflow==3.17.2",
        "numpy>=1.26",
        "pyarrow>=15",
        "pydantic>=2.8,<3",
        "pyyaml>=6",
        "ray[default]==2.60.0",
        "rouge-score==0.1.2",
        "sacrebleu==2.6.0",
        "safetensors>=0.4",
        "scikit-learn>=1.4",
        "scipy>=1.11",
        "sentence-transformers==6.2.0",
        "sentencepiece==0.2.3",
        "seqeval==1.2.2",
        "tokenizers>=0.20",
        "torch==2.13.0",
        "tqdm>=4.66",
        "transformers==5.23.0",
        "webdataset==1.0.2",
        "zstandard>=0.22",
    ],
    extras_require={
        "test": ["hypothesis>=6", "playwright==1.65.2", "pytest>=8"],
        "lint": ["mypy>=1.11", "pre-commit>=3", "ruff>=0.6", "types-PyYAML", "types-tqdm"],
    },
)
