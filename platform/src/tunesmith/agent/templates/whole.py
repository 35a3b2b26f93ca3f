"""The answer is everything that the model wrote, behind its thinking."""


def marked(text: str) -> str | None:
    """The text behind the thinking; None when it is empty."""
    return text.rpartition("</think>")[2].strip() or None
