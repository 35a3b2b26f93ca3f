// Paths of the dashboard's sessions pages.
import type { AnyRoute } from "@tanstack/react-router";

export const sessionRoutes: AnyRoute[] = [];
