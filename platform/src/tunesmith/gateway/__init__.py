"""The inference front: OpenAI chat completions in, token ids to an engine, every completion recorded before it is answered.

state = GatewayState(settings)
app = Starlette(routes=gateway_routes(state), lifespan=state.lifespan)
"""

from tunesmith.gateway.front import GatewayFirst
from tunesmith.gateway.routes import gateway_routes
from tunesmith.gateway.state import GatewayState

__all__ = ["GatewayFirst", "GatewayState", "gateway_routes"]
