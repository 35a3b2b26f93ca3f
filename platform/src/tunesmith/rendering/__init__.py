"""Chat <-> token ids: one place for gateway, orchestrator and learner. Needs neither torch nor transformers.

renderer = Renderer.load(model_folder)
ids = renderer.render([{"role": "user", "content": "1+1?"}])
message = renderer.parse(renderer.decode(sampled_ids))
"""

from tunesmith.rendering.parsing import PartialMessage
from tunesmith.rendering.renderer import Renderer

__all__ = ["PartialMessage", "Renderer"]
