//! temporary
extern crate podwire_images as images;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let root = std::path::Path::new(&a[1]);
    let store = store::Store::open(root).unwrap();
    let im = images::Images::open(root, &store).unwrap();
    let t = std::time::Instant::now();
    match a[2].as_str() {
        "import" => { let mut f = std::fs::File::open(&a[3]).unwrap(); let i = images::Import{name: Some("x"), changes: &[], message: None, created: jiff::Timestamp::now(), platform: images::Platform::host()}; println!("{:?}", im.import(&mut f, &i)); println!("{}", im.find("x").unwrap().layers[0].display()); }
        "find" => { println!("{:?}", im.find(&a[3]).map(|i| i.id).map_err(|e| e.to_string())); }
        "rm" => { println!("{:?}", im.remove(&a[3], true)); }
        _ => { println!("{:?}", im.pull(&a[3], &Default::default(), &images::Quiet)); }
    }
    eprintln!("{:?}", t.elapsed());
}
