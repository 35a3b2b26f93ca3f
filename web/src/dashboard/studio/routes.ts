// Paths of the dashboard's studio pages.
import type { AnyRoute } from "@tanstack/react-router";

export const studioRoutes: AnyRoute[] = [];
