"""Reading plain English into changes of the typed plan, by rules alone: no model, no network, the same answer every time.

Text becomes tokens (`words`), tokens become items in which names and numbers are told apart (`names`, `items`), small rules read
fields from them (`rules_*`), and what no rule consumed is asked about (`coverage`). Nothing is guessed.
"""

from tunesmith.agent.reading.names import BaseModelName, Names
from tunesmith.agent.reading.reader import read_instruction, read_message
from tunesmith.agent.reading.result import Intent, Reading, Topic

__all__ = ["BaseModelName", "Intent", "Names", "Reading", "Topic", "read_instruction", "read_message"]
