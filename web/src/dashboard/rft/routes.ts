// Paths of the dashboard's rft pages.
import type { AnyRoute } from "@tanstack/react-router";

export const rftRoutes: AnyRoute[] = [];
