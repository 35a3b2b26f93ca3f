"""The parts that generated evaluators are made of.

They are ordinary modules of the standard library alone: what recognises the answers of a dataset (`agent.answers`) is word for word
what scores a model's answers later (`agent.evaluator_source` copies it into the evaluator).
Of the first group, which finds the answer in a text, one is taken; of the second, which reads and compares it, one too.

whole, tags, box, hashes, answer_is      `marked(text)`: the piece of text that is the answer; None: there is none
number, json_value, label, exact         `value_of(text)`: the answer; None: it cannot be read. `same(answer, gold)`
tool_calls                               reads and compares the tool calls of a message
"""
