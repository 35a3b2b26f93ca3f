// Paths of the dashboard's resources pages.
import type { AnyRoute } from "@tanstack/react-router";

export const resourceRoutes: AnyRoute[] = [];
