"""The tiny tool-calling model: questions about shops, demonstrations of a tool-using agent, evaluation by whole episodes."""
