"""Texts as bags of words."""

from collections.abc import Sequence

import pandas as pd

from .counted import Counted

# Where bags of words say that they come from.
TEXTS = "texts"


def of_texts(texts: Sequence[str]) -> Counted:
    """How often each word is in each text: words of two letters or more, in small letters."""
    from sklearn.feature_extraction.text import CountVectorizer

    vectoriser = CountVectorizer()
    try:
        counts = vectoriser.fit_transform(texts)
    except ValueError:  # not a single word
        counts, names = pd.DataFrame(index=range(len(texts))), ()
        import scipy.sparse as sp

        return Counted(sp.csr_matrix((len(texts), 0)), names, part=TEXTS)
    return Counted(counts.tocsr(), tuple(vectoriser.get_feature_names_out()), part=TEXTS)
