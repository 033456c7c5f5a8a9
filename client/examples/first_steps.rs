//! Produces a record and reads it back. Needs a broker on 127.0.0.1:7171: `highwater broker`.

use std::time::Duration;

use highwater_client::{Client, NewTopic, ProducerRecord, Until};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::connect("127.0.0.1:7171").await?;
    let topic = NewTopic::new("greetings").partitions(1).if_not_exists();
    client.admin().create_topic(topic).await?;

    let producer = client.producer().build();
    let record = ProducerRecord::to("greetings").key("en").value("hello");
    let ack = producer.send(record).await?;
    println!("acknowledged at offset {:?}", ack.offset);
    producer.close(Duration::from_secs(5)).await?;

    let mut reader = client.reader("greetings").until(Until::End).build().await?;
    while let Some(record) = reader.next().await? {
        println!("read {:?} at {}", record.value, record.offset);
    }
    Ok(())
}
