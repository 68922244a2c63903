"""Seconds that datatrove takes to tokenise .jsonl files, on the last line of its output; started by preprocess.py.

    PYTHON benchmarks/datatrove_tokens.py FOLDER TOKENIZER.json OUTPUT WORKERS FILES

For a Python of its own, which has datatrove and nothing of ours. Its start (processes, imports, the tokenizer) is
measured on one document, and taken off.
"""

import json
import sys
import time
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor  # type: ignore[import-not-found]
from datatrove.pipeline.readers import JsonlReader  # type: ignore[import-not-found]
from datatrove.pipeline.tokens import DocumentTokenizer  # type: ignore[import-not-found]
from datatrove.utils.logging import logger  # type: ignore[import-not-found]


def tokenise(corpus: Path, tokenizer: str, output: Path, workers: int, tasks: int) -> float:
    """Seconds of one run; [SEP] after each document, order kept, as our stage has it."""
    steps = [
        JsonlReader(str(corpus)),
        DocumentTokenizer(str(output / "tokens"), tokenizer, eos_token="[SEP]", shuffle_documents=False),
    ]
    began = time.perf_counter()
    LocalPipelineExecutor(steps, tasks=tasks, workers=workers, logging_dir=str(output / "logs")).run()
    return time.perf_counter() - began


def main() -> None:
    """Prints the seconds."""
    corpus, tokenizer, output, workers, tasks = sys.argv[1:]
    logger.remove()
    small = Path(output) / "small"
    (small / "corpus").mkdir(parents=True)
    for number in range(int(workers)):
        (small / "corpus" / f"{number}.jsonl").write_text(json.dumps({"text": "one document"}) + "\n")
    start = tokenise(small / "corpus", tokenizer, small / "output", int(workers), int(workers))
    seconds = tokenise(Path(corpus), tokenizer, Path(output) / "all", int(workers), int(tasks))
    print(seconds - start)


if __name__ == "__main__":
    main()
