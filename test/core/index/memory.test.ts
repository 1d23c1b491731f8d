import { memoryIndex } from "../../../core/index/memory.ts";
import { siteIndexCompliance } from "./compliance.ts";

siteIndexCompliance("memory", async () => memoryIndex());
