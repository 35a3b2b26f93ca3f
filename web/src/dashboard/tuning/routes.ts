// Paths of the dashboard's tuning pages.
import type { AnyRoute } from "@tanstack/react-router";

export const tuningRoutes: AnyRoute[] = [];
