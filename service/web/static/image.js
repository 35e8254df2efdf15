import { wireCard } from "./api.js";

wireCard(document.getElementById("card"));
