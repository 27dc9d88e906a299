"""What often happens to data after training, one file a modality; `Modality.corruptions` states them."""
