// The frame around every page of the dashboard.
import { createRootRoute } from "@tanstack/react-router";
import { Shell } from "./Shell";

export const root = createRootRoute({ component: Shell });
